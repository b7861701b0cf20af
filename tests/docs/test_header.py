"""test_header.py - the public header compiles by itself in every language it is meant
for, and the library exports what the symbol map says: no more, no less.
"""
import os
import re

from docs import BUILD, Failure, Skip, compile_c, declarations, exported, main, run, tool

# Nothing is included before it, and something of everything in it is used.
PROGRAM = r"""
#include <ringtls/ringtls.h>

int use(struct ringtls_engine *engine);
int use(struct ringtls_engine *engine)
{
	struct ringtls_engine_info info;
	struct ringtls_conn_opts opts;

	info.size = sizeof(info);
	opts.lane = RINGTLS_LANE_KERNEL;
	if (ringtls_engine_get_info(engine, &info) == RINGTLS_E_STATE)
		return (int)opts.lane;
	return ringtls_reason_name(info.reason)[0] + RINGTLS_REASON_NONE;
}
"""
STRICT = ("-pedantic-errors", "-Wall", "-Wextra", "-Werror")


def differences(what, have, want):
    found = [f"{what}: {name} is missing" for name in sorted(set(want) - set(have))]
    found += [f"{what}: {name} is too much" for name in sorted(set(have) - set(want))]
    if found:
        raise Failure("\n".join(found))


def alone(plan, language, command, standard, suffix):
    with plan.check(f"the header alone is valid {language}, by {command}"):
        compiler = tool("CC", "cc") if command == "CC" else tool("", command)
        compile_c(PROGRAM, standard, *STRICT, suffix=suffix, compiler=compiler)


def dynamic_symbols():
    path = os.path.join(BUILD, ".libs", "libringtls.so")
    if not os.path.exists(path):
        raise Skip("no shared library was built")
    text = run(tool("NM", "nm") + ["-D", "--defined-only", path])
    # The version's own name is an absolute symbol (A).
    return {re.split("@", line.split()[-1])[0] for line in text.splitlines()
            if line.split()[-2] != "A"}


def test(plan):
    for language, standard in (("C99", "-std=c99"), ("C11", "-std=c11"), ("C17", "-std=c17")):
        alone(plan, language, "CC", standard, ".c")
    for command in ("g++", "clang++"):
        for language, standard in (("C++11", "-std=c++11"), ("C++20", "-std=c++20")):
            alone(plan, language, command, standard, ".cc")
    with plan.check("the map has every function of the header, and no other"):
        differences("src/ringtls.map", exported(), declarations())
    with plan.check("the shared library exports exactly the symbols of the map"):
        differences("libringtls.so", dynamic_symbols(), exported())


main(test)
