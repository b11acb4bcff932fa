"""The role contract of CONTRIBUTING.md, checked on every role alike."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.schema import faults
from provision.settings import schema_of

ROOT = Path(__file__).parents[1]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
KINDS = {"str", "path", "raw", "int", "float", "bool", "list", "dict"}

# Never in a role, in whatever language its line is.
FORBIDDEN = {
    r"\bignore_errors\b": "handle the failure, or let it fail",
    r"state:\s*latest": "pin a version",
    r"\bdeb(-src)?\b.*trusted=yes|^Trusted:\s*yes": "sign the repository",
    r"(allow[_-]unauthenticated|disable_gpg_check|validate_certs:\s*(no|false)|--no-check-certificate|--insecure)": (
        "never disable a signature or certificate check"
    ),
    r"\b(curl|wget)\b[^|\n]*\|\s*(sudo\s+)?(ba)?sh\b": "never pipe a download to a shell",
    r"ansible\.builtin\.reboot|shutdown\s+-r|systemctl\s+reboot": "a role never reboots",
}
# A module's behaviour is not the module's alone where its failure is swallowed; the reason stands beside it.
NEEDS_A_REASON = re.compile(r"^\s*(failed_when:\s*false|changed_when:.*)$")


def each_role(rule: Callable[[Path], Iterable[str]]) -> Callable[[], None]:
    """A rule of the contract, which yields what a role offends it with, as one test that names them of all roles."""

    def test() -> None:
        found = [f"{role.name}: {offence}" for role in ROLES for offence in offences(rule, role)]
        assert not found, "\n".join(found)

    test.__name__, test.__doc__ = rule.__name__, rule.__doc__
    return test


def offences(rule: Callable[[Path], Iterable[str]], role: Path) -> Iterator[str]:
    """A role that a rule cannot even read is an offender too, and hides no other one."""
    try:
        yield from rule(role)
    except Exception as error:  # noqa: BLE001  what a broken role makes a rule raise is not known beforehand
        yield f"{type(error).__name__}: {error}"


@functools.cache
def load(path: Path) -> Any:
    """A YAML file; callers change nothing in it."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, Any]:
    return dict(load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {}))


def every_option(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Options and those nested in them, by dotted name."""
    for name, option in found.items():
        yield f"{path}{name}", option
        yield from every_option(option.get("options", {}), f"{path}{name}.")


def lines(role: Path, *folders: str) -> Iterator[tuple[Path, int, str]]:
    for folder in folders:
        for path in sorted((role / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".txt", ".sha256", ".asc"):
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                    yield path.relative_to(ROOT), number, line


def tasks(role: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every task and handler, blocks opened."""
    for folder in ("tasks", "handlers"):
        for path in sorted((role / folder).glob("*.yml")):
            stack = list(load(path) or [])
            while stack:
                task = stack.pop(0)
                yield path.relative_to(ROOT), task
                stack = [*task.get("block", []), *task.get("rescue", []), *task.get("always", []), *stack]


def own_modules() -> set[str]:
    return {
        path.stem
        for folder in (*ROOT.glob("roles/*/library"), ROOT / "playbooks/library", ROOT / "playbooks/action_plugins")
        for path in folder.glob("*.py")
    }


def test_the_five_roles_are_there() -> None:
    assert {role.name for role in ROLES} >= {"base", "docker", "uv", "python_ml", "model_cache"}


# -- 1: declared ---------------------------------------------------------------------------------------------------


@each_role
def test_defaults_and_specs_hold_the_same_keys_and_values(role: Path) -> Iterator[str]:
    defaults = load(role / "defaults" / "main.yml") or {}
    specs = {name: option.get("default", "no default") for name, option in options(role).items()}
    for name in sorted(defaults.keys() | specs.keys()):
        default, spec = defaults.get(name, "not there"), specs.get(name, "not there")
        if default != spec or name not in defaults or name not in specs:
            yield f"{name}: {default!r} in defaults, {spec!r} in the specs"


@each_role
def test_defaults_have_the_types_of_their_specs(role: Path) -> Iterator[str]:
    defaults = load(role / "defaults" / "main.yml") or {}
    assert defaults.keys() == options(role).keys()
    for name, option in options(role).items():
        if found := faults(schema_of(option), defaults[name]):
            yield f"{name}: {found}"


@each_role
def test_nested_defaults_have_the_types_of_their_specs(role: Path) -> Iterator[str]:
    for name, option in every_option(options(role)):
        if "default" in option and (found := faults(schema_of(option), option["default"])):
            yield f"{name}: {found}"


@each_role
def test_defaults_decide_nothing(role: Path) -> Iterator[str]:
    """A template in a default would be a decision that no plan shows."""
    for number, line in enumerate((role / "defaults" / "main.yml").read_text(encoding="utf-8").splitlines(), 1):
        if "{{" in line:
            yield f"line {number}: {line.strip()}"


@each_role
def test_every_option_says_what_it_is_for(role: Path) -> Iterator[str]:
    for name, option in every_option(options(role)):
        if len(str(option.get("description", ""))) < 15:
            yield name


@each_role
def test_every_option_has_a_type_and_lists_say_of_what(role: Path) -> Iterator[str]:
    for name, option in every_option(options(role)):
        if option.get("type") not in KINDS:
            yield f"{name} has the type {option.get('type')}"
        elif option["type"] == "list" and "elements" not in option:
            yield f"{name} is a list and does not say of what"


@each_role
def test_names_carry_the_roles_prefix(role: Path) -> Iterator[str]:
    public = list(options(role))
    internal = [name for path in sorted((role / "vars").glob("*.yml")) for name in load(path) or {}]
    set_in_tasks = [
        name
        for _, task in tasks(role)
        for name in [task.get("register"), *(task.get("vars") or {}), *(task.get("ansible.builtin.set_fact") or {})]
        if name and name != "cacheable"
    ]
    reboot = f"{role.name}_reboot_required"  # what a role tells the one place that reboots
    yield from (name for name in public if not name.startswith(f"{role.name}_"))
    yield from (n for n in (*internal, *set_in_tasks) if not n.startswith(f"__{role.name}_") and n != reboot)


@each_role
def test_the_readme_says_how_the_role_is_proved_and_names_no_variable_that_is_gone(role: Path) -> Iterator[str]:
    """docs/settings.md lists all variables from the specs; a README names those that it has something to say about."""
    text = (role / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<![/\w]){role.name}_[a-z0-9_]+\b", text))
    if not named:
        yield "its README names none of its variables"
    roles = {other.name for other in ROLES}
    yield from sorted(named - set(options(role)) - own_modules() - roles - {f"{role.name}_reboot_required"})
    if "verify" not in text:
        yield "its README does not say how it is proved"


# -- 2, 3: few tasks, own modules, nothing forbidden -----------------------------------------------------------------


@each_role
def test_only_built_in_modules_and_the_projects_own(role: Path) -> Iterator[str]:
    keywords = {
        "name", "when", "register", "notify", "vars", "loop", "loop_control", "become", "become_user", "block",
        "rescue", "always", "changed_when", "failed_when", "check_mode", "no_log", "listen", "until", "retries",
        "delay", "tags", "environment", "args", "delegate_to", "run_once", "diff", "timeout", "throttle",
    }  # fmt: skip
    used = {key for _, task in tasks(role) for key in task if key not in keywords}
    yield from sorted(name for name in used if not name.startswith("ansible.builtin.") and name not in own_modules())


@each_role
def test_every_task_has_a_name(role: Path) -> Iterator[str]:
    yield from (f"{path}: {task}" for path, task in tasks(role) if not task.get("name"))


@each_role
def test_no_forbidden_word(role: Path) -> Iterator[str]:
    for path, number, line in lines(role, "tasks", "handlers", "templates", "files", "defaults", "vars", "meta"):
        for word, remedy in FORBIDDEN.items():
            if re.search(word, line):
                yield f"{path}:{number}: {line.strip()} ({remedy})"


@each_role
def test_a_swallowed_failure_or_change_has_its_reason_beside_it(role: Path) -> Iterator[str]:
    found = list(lines(role, "tasks", "handlers"))
    for index, (path, number, line) in enumerate(found):
        begin = next(i for i in range(index, -1, -1) if found[i][2].lstrip().startswith("- name:") or i == 0)
        if NEEDS_A_REASON.match(line) and not any("#" in text for _, _, text in found[max(begin - 1, 0) : index + 1]):
            yield f"{path}:{number}: {line.strip()}"


@each_role
def test_only_the_play_becomes_root(role: Path) -> Iterator[str]:
    """A task may only drop to a service user."""
    yield from (task["name"] for _, task in tasks(role) if task.get("become") and "become_user" not in task)


# -- 5: restarts -----------------------------------------------------------------------------------------------------


@each_role
def test_the_last_task_flushes_the_handlers(role: Path) -> Iterator[str]:
    last = load(role / "tasks" / "main.yml")[-1]
    if last.get("ansible.builtin.meta") != "flush_handlers":
        yield f"the last task is {last}"


@each_role
def test_restarts_stand_in_handlers_only(role: Path) -> Iterator[str]:
    for path, task in tasks(role):
        for module in ("ansible.builtin.systemd_service", "ansible.builtin.systemd", "ansible.builtin.service"):
            if path.parent.name == "tasks" and (task.get(module) or {}).get("state") in ("restarted", "reloaded"):
                yield task["name"]


@each_role
def test_every_notified_handler_exists(role: Path) -> Iterator[str]:
    handlers = {task["name"] for path, task in tasks(role) if path.parent.name == "handlers"}
    listens = {task["listen"] for path, task in tasks(role) if path.parent.name == "handlers" and "listen" in task}
    told = {
        name
        for _, task in tasks(role)
        for name in ([task["notify"]] if isinstance(task.get("notify"), str) else task.get("notify") or [])
    }
    yield from sorted(told - handlers - listens)


# -- 7, 8, 9: proved -------------------------------------------------------------------------------------------------


def verify_functions(role: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((role / "verify" / f"test_{role.name}.py").read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def verify_tests(role: Path) -> dict[str, ast.FunctionDef]:
    return {name: node for name, node in verify_functions(role).items() if name.startswith("test_")}


def asking_a_gpu(role: Path) -> set[str]:
    marked = {name: map(ast.unparse, node.decorator_list) for name, node in verify_tests(role).items()}
    return {name for name, decorators in marked.items() if "pytest.mark.gpu" in decorators}


def arguments(function: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in function.args.args}


@each_role
def test_every_verify_test_asks_the_host_and_can_fail(role: Path) -> Iterator[str]:
    found = verify_tests(role)
    if not found:
        yield "there is no verify test"
    fixtures = {fixture for fixture, node in verify_functions(role).items() if "host" in arguments(node)}
    for name, function in found.items():
        if not arguments(function) & {"host", *fixtures}:
            yield f"{name} asks no host"
        judges = [
            node
            for node in ast.walk(function)
            if isinstance(node, ast.Assert)
            or (isinstance(node, ast.Attribute) and node.attr in ("check_output", "run_expect", "run_test"))
        ]
        if not judges:
            yield f"{name} asserts nothing"
        if any(isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) for node in judges):
            yield f"{name} asserts a constant"


@each_role
def test_no_verify_test_skips(role: Path) -> Iterator[str]:
    """A skip is never a pass, so a verify test that may skip proves nothing."""
    text = (role / "verify" / f"test_{role.name}.py").read_text(encoding="utf-8")
    yield from (match.group() for match in re.finditer(r"pytest\.(mark\.)?(skip|xfail)", text))


@each_role
def test_every_verify_test_has_a_negative_control(role: Path) -> Iterator[str]:
    controls = load(role / "verify" / "controls.yml")
    keys = {"name", "break", "fails", "mend"}
    for control in controls:
        if not keys <= set(control) <= keys | {"alone"} or not control["fails"]:
            yield f"a control has other keys than name, break, fails, mend and alone, or fails nothing: {control}"
        if len(control.get("alone", "a reason")) < 8:
            yield f"{control['name']} stands alone without a reason"
    names = [control.get("name") for control in controls]
    yield from (f"two controls are called {name}" for name in sorted({name for name in names if names.count(name) > 1}))
    controlled = {name for control in controls for name in control["fails"]}
    there = set(verify_tests(role))
    yield from (f"{name} has no control" for name in sorted(there - asking_a_gpu(role) - controlled))
    yield from (f"a control fails {name}, which is no test" for name in sorted(controlled - there))


@each_role
def test_what_asks_a_gpu_has_a_sound_host_and_broken_ones_on_record(role: Path) -> Iterator[str]:
    """Where there is no card to break, tests/unit/test_gpu_verify.py runs these tests on recorded hosts instead."""
    path = ROOT / "tests" / "cases" / "gpu_verify" / f"{role.name}.yml"
    cases = load(path)["tests"] if path.exists() else {}
    asking = asking_a_gpu(role)
    yield from (f"{name} is not on record" for name in sorted(asking - set(cases)))
    yield from (f"{name} is on record and asks no GPU" for name in sorted(set(cases) - asking))
    yield from (f"{name} has no broken host on record" for name, case in cases.items() if not case.get("broken"))


@each_role
def test_there_is_a_thin_molecule_scenario(role: Path) -> Iterator[str]:
    scenario = load(ROOT / "molecule" / role.name / "molecule.yml")
    if not scenario["platforms"]:
        yield "its scenario has no platforms"


# -- the contract itself can fail ------------------------------------------------------------------------------------


def test_an_offence_is_told_with_its_role_and_so_is_what_cannot_be_read() -> None:
    def reads_badly(role: Path) -> Iterator[str]:
        yield from load(role / "no such file")

    first, last = ROLES[0].name, ROLES[-1].name
    with pytest.raises(AssertionError, match=rf"(?s){first}: too short\n.*{last}: too short"):
        each_role(lambda _: ["too short"])()
    with pytest.raises(AssertionError, match=rf"(?s){first}: FileNotFoundError.*{last}: FileNotFoundError"):
        each_role(reads_badly)()


@pytest.mark.parametrize(
    "line",
    [
        "ignore_errors: true",
        "state: latest",
        "deb [trusted=yes] http://x",
        "Trusted: yes",
        "curl -fsSL https://x | sudo bash",
        "wget -qO- x | sh",
        "validate_certs: false",
        "ansible.builtin.reboot:",
    ],
)
def test_forbidden_words_are_found(line: str) -> None:
    assert any(re.search(word, line) for word in FORBIDDEN)


@pytest.mark.parametrize(
    "line", ["# the latest state", "curl -o file https://x", "state: present", "echo a | sha512sum"]
)
def test_innocent_lines_are_not(line: str) -> None:
    assert not any(re.search(word, line) for word in FORBIDDEN)
