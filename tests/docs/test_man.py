"""test_man.py - the manual pages: each function has one, what they show is what the
header says, their examples compile, and they are well formed.
"""
import os
import re
import shutil

from docs import (SOURCE, Failure, Skip, compile_c, declarations, exported, main, read,
                  run, structures, tokens, without_comments, HEADER)

FOLDER = os.path.join(SOURCE, "doc", "man")
ORDER = ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUES", "EXIT STATUS", "ERRORS", "EXAMPLES",
         "NOTES", "SEE ALSO", "CAVEATS"]
STRICT = ("-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror")
LIBURING = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")  # what its header asks for


def pages(section=""):
    return sorted(name for name in os.listdir(FOLDER) if re.fullmatch(r"[\w-]+\.[137]", name)
                  and name.endswith(section) and not source(name).startswith(".so "))


def source(name):
    return read("doc", "man", name)


def stubs():
    """name of a function -> the page that its .so line names"""
    found = {}
    for name in os.listdir(FOLDER):
        match = re.fullmatch(r"\.so man3/([\w-]+\.3)\n", source(name))
        if match and name.endswith(".3"):
            found[name[:-2]] = match.group(1)
    return found


def sections(name):
    """heading -> text"""
    parts = re.split(r"^\.Sh (.*)\n", source(name), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def plain(text):
    """What a page shows of a literal line."""
    for escape, char in ((r"\e", "\\"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\-", "-"), (r"\&", "")):
        text = text.replace(escape, char)
    return text


def literals(text):
    return [plain(block) for block in
            re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.M | re.S)]


def all_or_nothing(wrong):
    if wrong:
        raise Failure("\n".join(wrong))


def prototypes(name):
    """name -> prototype, as a SYNOPSIS shows them in .Ft, .Fo, .Fa and .Fc lines."""
    found = {}
    text = sections(name).get("SYNOPSIS", "")
    pattern = r'^\.Ft (.*)\n\.Fo (\w+)\n((?:\.Fa .*\n)*)\.Fc'
    for kind, function, arguments in re.findall(pattern, text, re.M):
        listed = [line[4:].strip('"') for line in arguments.splitlines()]
        found[function] = f'{kind.strip(chr(34))} {function}({", ".join(listed)})'
    return found


def named(name):
    """The functions that NAME lists."""
    return re.findall(r"^\.Nm (\w+)", sections(name)["NAME"], re.M)


# ---- What there must be -----------------------------------------------------------


def every_exported_function_has_a_page():
    have = {function: name for name in pages(".3") for function in named(name)}
    wrong = [f"{function} has no page" for function in exported() if function not in have]
    wrong += [f"{name} describes {function}, which the library does not export"
              for function, name in have.items() if function not in exported()]
    found = stubs()
    for function, name in have.items():
        if function + ".3" != name and found.get(function) != name:
            wrong.append(f"doc/man/{function}.3 must be: .so man3/{name}")
    wrong += [f"doc/man/{function}.3 leads to {name}, which does not name it"
              for function, name in found.items() if have.get(function) != name]
    all_or_nothing(wrong)


def every_page_is_installed():
    listed = set(re.findall(r"doc/man/([\w-]+\.[137])", read("doc", "local.mk")))
    there = {name for name in os.listdir(FOLDER) if name[-2:] in (".1", ".3", ".7")}
    all_or_nothing([f"doc/local.mk does not list doc/man/{name}" for name in there - listed])


def sections_keep_their_order():
    wrong = []
    for name in pages():
        have = list(sections(name))
        known = [heading for heading in ORDER if heading in have]
        wrong += [f"{name}: section {heading} has no place" for heading in have
                  if heading not in ORDER]
        if [heading for heading in have if heading in ORDER] != known:
            wrong.append(f"{name}: sections are in the order {have}")
        needed = ORDER[:4] + ["ERRORS", "EXAMPLES", "SEE ALSO"] if name[-2:] == ".3" else []
        wrong += [f"{name}: section {heading} is missing" for heading in needed
                  if heading not in have]
    all_or_nothing(wrong)


def no_word_is_taken_for_a_macro():
    meant = ("Dv", "Fa", "Cm", "Er", "Fl", "Fn", "Ic", "Va", "Pa", "Xr", "Ar")
    all_or_nothing([f"{name}: {line}" for name in pages()
                    for line, word in re.findall(r"^(\.It ([A-Z][a-z])\b.*)$", source(name), re.M)
                    if word not in meant])


def references_lead_somewhere():
    there, wrong = os.listdir(FOLDER), []
    for name in pages():
        wrong += [f"{name}: Xr {page} {section}" for page, section in
                  re.findall(r"^\.Xr (ringtls[\w-]*) (\d)", source(name), re.M)
                  if f"{page}.{section}" not in there]
    wrong += [f"ringtls.7 does not lead to {name}" for name in pages(".3") + pages(".1")
              if f".Xr {name[:-2]} {name[-1]} " not in sections("ringtls.7")["SEE ALSO"]]
    all_or_nothing(wrong)


# ---- What they say is what the header says -------------------------------------------


def synopses_are_those_of_the_header():
    wrong, header = [], declarations()
    for name in pages(".3"):
        shown = prototypes(name)
        wrong += [f"{name}: {function} has no synopsis" for function in named(name)
                  if function not in shown]
        for function, text in shown.items():
            if tokens(text) != header.get(function):
                wrong.append(f"{name}: {text}\nbut the header has: "
                             + " ".join(header.get(function, ["nothing"])))
    all_or_nothing(wrong)


def synopses_compile_against_the_header():
    together = ""
    for name in pages(".3"):
        if not re.search(r"^\.In ringtls/ringtls\.h$", sections(name)["SYNOPSIS"], re.M):
            raise Failure(f"{name}: the header is not named")
        together += f'#line 1 "{name}"\n' + ";\n".join(prototypes(name).values()) + ";\n"
    compile_c("#include <ringtls/ringtls.h>\n" + together, *STRICT)


def structures_are_those_of_the_header():
    header, shown, wrong = structures(), {}, []
    for name in pages(".3"):
        for block in literals(sections(name)["DESCRIPTION"]):
            match = re.match(r"struct (\w+) \{", block)
            if not match:
                continue
            shown[match.group(1)] = name
            if tokens(block.rstrip().rstrip(";")) != header.get(match.group(1)):
                wrong.append(f"{name}: struct {match.group(1)} is not what the header has")
    wrong += [f"no page shows struct {name}" for name, body in header.items()
              if body[0] == "struct" and name not in shown]
    all_or_nothing(wrong)


def fields_are_explained():
    wrong = []
    for name in pages(".3"):
        text = sections(name)["DESCRIPTION"]
        for block in literals(text):
            fields = re.findall(r"(\w+);", block) if block.startswith("struct") else []
            prose = re.sub(r"^\.Bd -literal.*?^\.Ed", "", text, flags=re.M | re.S)
            wrong += [f"{name}: nothing is said about {field}" for field in fields
                      if not re.search(rf"^\.(It )?Fa .*\b{field}\b", prose, re.M)]
    all_or_nothing(wrong)


def names_of_constants_exist():
    header = read(HEADER)
    codes = re.findall(r"\bX\((\w+),", without_comments(header))
    known = set(re.findall(r"\bRINGTLS_\w+", header)) | {"RINGTLS_REASON_" + c for c in codes}
    known |= set(re.findall(r"\bRINGTLS_\w+", read("include", "ringtls", "version.h.in")))
    wrong = []
    for name in pages():
        if name[-2:] == ".1":
            continue
        text = re.sub(r"^\.Dt .*$", "", source(name), flags=re.M)
        wrong += [f"{name}: {word} is not in the header"
                  for word in re.findall(r"\bRINGTLS_\w+\b", text)
                  if word not in known and word != "RINGTLS_E_"]
    shown = "".join(source(name) for name in pages())
    public = [word for word in known if not word.endswith(("_H", "_API", "_MAP", "_ENUM", "_"))]
    wrong += [f"no page names {word}" for word in sorted(public)
              if not re.search(rf"\b{word}\b", shown)]
    all_or_nothing(wrong)


def reasons_are_those_of_the_header():
    text = without_comments(read(HEADER)).replace("\\\n", " ")
    want = [(f"RINGTLS_REASON_{name}", code, sentence) for name, code, sentence in
            re.findall(r'\bX\((\w+),\s*"([^"]*)",\s*"((?:\\.|[^"\\])*)"\)', text)]
    page = sections("ringtls.7")["DESCRIPTION"]
    have = [(name, code, " ".join(sentence.split())) for name, code, sentence in
            re.findall(r"^\.It Dv (RINGTLS_REASON_\w+) , Cm (\S+)\n(.*?)(?=^\.)", page,
                       re.M | re.S)]
    want = [(name, code, sentence.replace('\\"', '"')) for name, code, sentence in want]
    if not want or have != want:
        raise Failure("the list of reasons in ringtls.7 is not that of the header:\n" +
                      "\n".join(str(line) for line in set(have) ^ set(want)))


def error_sentences_are_those_of_the_library():
    want = set(re.findall(r'\{ (RINGTLS_E_\w+), "([^"]*)" \}', read("src", "error.c")))
    page = sections("ringtls_strerror.3")["DESCRIPTION"]
    have = {(name, " ".join(text.split())) for name, text in
            re.findall(r"^\.It Dv (RINGTLS_E_\w+)\n(.*?)(?=^\.)", page, re.M | re.S)}
    if not want or have != want:
        raise Failure("\n".join(str(line) for line in have ^ want))


# ---- Examples and form ------------------------------------------------------------------


def examples_compile():
    wrong = []
    for name in pages(".3") + pages(".7"):
        blocks = literals(sections(name)["EXAMPLES"])
        if not blocks:
            wrong.append(f"{name} has no example")
        for block in blocks:
            try:
                compile_c(block, *(LIBURING if "<liburing.h>" in block else STRICT))
            except Failure as failure:
                wrong.append(f"{name}: {failure}")
    all_or_nothing(wrong)


def a_tool(name):
    if not shutil.which(name):
        raise Skip(f"no {name} here")
    return name


def mandoc_finds_no_fault():
    command = [a_tool("mandoc"), "-Tlint", "-Wwarning"]
    wrong = []
    for name in pages():
        try:
            text = run(command + [os.path.join(FOLDER, name)])
        except Failure as failure:
            text = str(failure).split("\n", 1)[1]
        # Errors come before examples here, as in section 2 of Linux; mandoc's order is BSD's.
        wrong += [line for line in text.splitlines()
                  if line and not line.endswith("sections out of conventional order: Sh EXAMPLES")]
    all_or_nothing(wrong)


def groff_finds_no_fault():
    command = [a_tool("groff"), "-mandoc", "-Tutf8", "-ww", "-z"]
    all_or_nothing([line for name in pages()
                    for line in run(command + [os.path.join(FOLDER, name)]).splitlines()])


def test(plan):
    for check in (every_exported_function_has_a_page, every_page_is_installed,
                  sections_keep_their_order, no_word_is_taken_for_a_macro,
                  references_lead_somewhere,
                  synopses_are_those_of_the_header, synopses_compile_against_the_header,
                  structures_are_those_of_the_header, fields_are_explained,
                  names_of_constants_exist, reasons_are_those_of_the_header,
                  error_sentences_are_those_of_the_library, examples_compile,
                  mandoc_finds_no_fault, groff_finds_no_fault):
        with plan.check(check.__name__.replace("_", " ")):
            check()


main(test)
