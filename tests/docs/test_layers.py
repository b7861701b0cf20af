"""test_layers.py - a file includes only headers below it, its own, or leaves.

The table is the true graph of src/, from top to bottom; doc/DESIGN.md draws it. A
new file must be given its place here, and a new edge must point down.
"""
import os
import re

from docs import BUILD, SOURCE, Failure, Skip, compile_c, main, read, run, tool

# module: its files, and the modules whose headers it may include
LAYERS = {
    "session": ("api.c attach.c feed.c fetch.c loop.c promote.c queue.c stream.c write.c request.h "
                "session.h",
                "conn lane engine ossl keylog probe opts wipe"),
    "conn": ("conn.c conn.h", "lane tx"),
    "lane": ("lane_kernel.c lane_openssl.c lane_user.c lane.h", "tx"),
    "tx": ("tx.h", "op txq seal"),
    "engine": ("engine.c engine_caller.c engine_syscalls.c engine_uring.c ring.c engine.h ring.h",
               "op uring probe pool opts sys"),
    "op": ("control.c op.h", "seal sys"),
    "ossl": ("ossl.c ossl_own.c selftest.c ossl.h", "txq keylog secret pool seal sys"),
    "txq": ("txq.c txq.h", "pool seal"),
    "uring": ("uring.c uring.h", "sys"),
    "probe": ("probe.c probe.h", "sys"),
    "keylog": ("keylog.c keylog.h", "secret"),
    "secret": ("secret.c secret.h", "seal"),
    "pool": ("pool.c pool.h", ""),
    "seal": ("seal.c seal.h", "aead wipe"),
    "aead": ("aead.c aead.h", ""),
    "opts": ("opts.c opts.h", ""),
    "error": ("error.c", ""),
    "sys": ("sys.c sys.h", ""),
    "wipe": ("wipe.c wipe.h", ""),
}

# Who may name a library or another part of the world; everybody else must not.
WORLD = {
    r"liburing\.h": "uring engine sys",
    r"openssl/ssl\.h": "session ossl keylog",
    r"openssl/evp\.h": "ossl secret aead",
    r"(sys/socket|netinet/.*|linux/tcp)\.h": "session op ossl seal probe sys",
    r"(sys/epoll|sys/timerfd|sys/eventfd|time|unistd)\.h": "engine probe uring sys",
}

# The state machine and what it runs on, sans I/O: what their objects may call.
SANS_IO = "conn lane txq"
PURE = (r"ringtls__\w+|_GLOBAL_OFFSET_TABLE_|mem(cpy|set|move|cmp)|fprintf|fwrite|fputs|fputc|"
        r"__assert_fail|abort|OPENSSL_cleanse|__\w+_chk|__stack_chk\w*|__(a|ub|t)san\w+")

# The programs: those of the first kind see the public header only.
TOOLS = {"serve": "", "bench": "", "probe": "ossl keylog uring probe"}


def files(*folder):
    return sorted(name for name in os.listdir(os.path.join(SOURCE, *folder))
                  if name.endswith((".c", ".h")))


def includes(kind, *path):
    """The names that a file includes, as <name> or as "name"."""
    pattern = {'"': r'^#\s*include "([^"]+)"', "<": r"^#\s*include <([^>]+)>"}[kind]
    return [name for name in re.findall(pattern, read(*path), re.M) if name != "config.h"]


def module_of():
    return {name: module for module, (names, _) in LAYERS.items() for name in names.split()}


def all_or_nothing(wrong):
    if wrong:
        raise Failure("\n".join(wrong))


def every_file_has_a_place():
    have, known = set(files("src")), set(module_of())
    all_or_nothing([f"src/{name} is in no layer" for name in sorted(have - known)] +
                   [f"src/{name} is in the table, and not there" for name in sorted(known - have)])


def the_table_points_down():
    order = list(LAYERS)
    all_or_nothing([f"{module} may include {below}, which is not below it"
                    for module, (_, allowed) in LAYERS.items() for below in allowed.split()
                    if order.index(below) <= order.index(module)])


def edges():
    """(file, module, the module of a header that it includes)"""
    modules = module_of()
    for name, module in modules.items():
        for header in includes('"', "src", name):
            yield name, header, module, modules.get(header, "nothing we know")


def nothing_is_included_from_above():
    all_or_nothing([f"src/{name} includes {header}, of {below}"
                    for name, header, module, below in edges()
                    if below != module and below not in LAYERS[module][1].split()])


def the_table_says_no_more_than_is_true():
    used = {(module, below) for _, _, module, below in edges()}
    all_or_nothing([f"{module} includes nothing of {below}"
                    for module, (_, allowed) in LAYERS.items() for below in allowed.split()
                    if (module, below) not in used])


def the_world_stays_where_it_is_expected():
    wrong = []
    for name, module in module_of().items():
        for header in includes("<", "src", name):
            wrong += [f"src/{name} includes <{header}>" for pattern, may in WORLD.items()
                      if re.fullmatch(pattern, header) and module not in may.split()]
    all_or_nothing(wrong)


def every_header_stands_alone():
    for name in files("src"):
        if name.endswith(".h"):
            compile_c(f'#include "config.h"\n#include "{name}"\n', "-std=gnu11", "-Wall",
                      "-Werror", "-I" + BUILD, "-I" + os.path.join(SOURCE, "src"))


def undefined(path):
    text = run(tool("NM", "nm") + ["-u", path])
    return [line.split()[-1].split("@")[0] for line in text.splitlines() if line.split()]


def the_state_machine_calls_no_kernel():
    wrong = []
    for module in SANS_IO.split():
        for name in LAYERS[module][0].split():
            path = os.path.join(BUILD, "src", ".libs", name[:-2] + ".o")
            if not name.endswith(".c"):
                continue
            if not os.path.exists(path):
                raise Skip(f"{path} was not built")
            wrong += [f"{name} calls {symbol}" for symbol in undefined(path)
                      if not re.fullmatch(PURE, symbol)]
    all_or_nothing(wrong)


def programs_keep_to_what_is_theirs():
    modules, wrong = module_of(), []
    own = set(files("src", "tools"))
    for name in own:
        allowed = TOOLS.get(re.split(r"[_.]", name)[0])
        if allowed is None:
            wrong.append(f"src/tools/{name} belongs to no program of the table")
            continue
        wrong += [f"src/tools/{name} includes {header}"
                  for header in includes('"', "src", "tools", name)
                  if header not in own and modules.get(header) not in allowed.split()]
    all_or_nothing(sorted(wrong))


def test(plan):
    for check in (every_file_has_a_place, the_table_points_down, nothing_is_included_from_above,
                  the_table_says_no_more_than_is_true, the_world_stays_where_it_is_expected,
                  every_header_stands_alone, the_state_machine_calls_no_kernel,
                  programs_keep_to_what_is_theirs):
        with plan.check(check.__name__.replace("_", " ")):
            check()


main(test)
