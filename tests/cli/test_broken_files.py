"""Broken and hostile files at the terminal: exit code 2 and one error that names file and remedy, never a stack trace.

In process, since each command is one call; `test_command_line` starts real processes.
"""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmops_assets.cli.app import app

CONFIG = "name: zoo\nmodel: {base: {path: models/base}}\ndata: {train: data/train.jsonl, test: data/test.jsonl}\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" + "".join(
    f"k{n}: &k{n} [{','.join([f'*{before}'] * 9)}]\n" for n, before in enumerate(["c", "k0", "k1", "k2"])
)


def llmops(*words: str, home: Path, settings: str | None = None) -> str:
    """The error of a command that must fail as misuse or fault."""
    home.mkdir(exist_ok=True)
    file = home / "settings.yaml"
    file.write_text(settings if settings is not None else f"home: {home}\n")
    result = CliRunner().invoke(app, words, env={"LLMOPS_HOME": str(home), "LLMOPS_SETTINGS": str(file)})
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), (result.output, result.exception)
    assert len(result.stderr) < 5_000
    return result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid project's folder, without Git."""
    project = tmp_path / "zoo"
    for path in ("models/base", "data", "prompts"):
        (project / path).mkdir(parents=True)
    (project / "llmops.yaml").write_text(CONFIG + "prompt: prompts/ask.jinja\ndeployment: {smoke_tests: smoke.yaml}\n")
    (project / "prompts/ask.jinja").write_text("{{ input }}\n")
    (project / "smoke.yaml").write_text("- {name: a, input: b}\n")
    for split in ("train", "test"):
        (project / f"data/{split}.jsonl").write_text('{"input": "a", "output": "b"}\n')
    (project / "models/base/config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (project / "models/base/model.safetensors").write_bytes(b"")
    return project


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("llmops.yaml", BOMB, "llmops.yaml:4: not valid YAML: its aliases expand to more than ten times the file"),
        ("llmops.yaml", CONFIG + "<<<<<<< HEAD\n", "llmops.yaml:5: not valid YAML"),
        (
            "llmops.yaml",
            CONFIG + "prompt: 2026-02-30\n",
            "llmops.yaml:4: not valid YAML: day is out of range for month",
        ),
        ("llmops.yaml", "# " + "x" * 300_000, "llmops.yaml: it is larger than 256 KB"),
        (
            "prompts/ask.jinja",
            "{{ input" + "|replace('a','aaaaaaaa')" * 9 + " }}",
            "ask.jinja: line 1: the prompt could be",
        ),
        (
            "smoke.yaml",
            "- name: a\n  input: b\n  expect: {matches: '(a)\\1'}\n",
            "smoke.yaml:3: 0.expect.matches: not a",
        ),
        ("models/base/config.json", "[1, 2]", "its config.json: expected a JSON object with keys, not a list"),
        ("models/base/config.json", "[" * 50_000, "its config.json: not valid JSON: nested more than 40 levels deep"),
        (
            "models/base/config.json",
            '{"architectures": "Llama"}',
            "its config.json: architectures: Input should be a valid",
        ),
        ("models/base/tokenizer_config.json", "[]", "its tokenizer_config.json: expected a JSON object"),
    ],
)
def test_check_names_the_file_and_what_is_wrong(folder: Path, tmp_path: Path, path: str, text: str, said: str) -> None:
    (folder / path).write_text(text)
    assert said in llmops("check", "--path", str(folder), home=tmp_path / "home")


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ("outs: text\n", "data/train.jsonl.dvc: not as DVC writes it"),
        ("outs: [[[\n", "data/train.jsonl.dvc: not valid YAML; was a merge left unfinished?"),
        ("outs:\n- {md5: ../../../etc/passwd, path: x}\n", "data/train.jsonl.dvc: not as DVC writes it"),
        ("outs:\n- {md5: 2026-02-30, path: x}\n", "(line 2, day is out of range for month)"),
        ("[" * 10_000, "(line 1, nested more than 40 levels deep)"),
        ("- outs\n", "data/train.jsonl.dvc: not as DVC writes it"),
    ],
)
def test_check_names_a_dvc_file_that_is_none(folder: Path, tmp_path: Path, pointer: str, said: str) -> None:
    (folder / "data/train.jsonl").unlink()
    (folder / "data/train.jsonl.dvc").write_text(pointer)
    told = llmops("check", "--path", str(folder), home=tmp_path / "home")
    assert said in told and "`dvc add`" in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("ledger: nonsense\n", "ledger: not the address of a database; write sqlite:///"),
        ("ledger: 'postgresql://host:port/x'\n", "ledger: not the address of a database"),
        ("ledger: 'oracle://host/x'\n", "ledger: oracle is not supported; write sqlite:///"),
        ("ledger: 'postgresql+nothing://host/x'\n", "ledger: not the address of a database"),
        ("ledger: 'sqlite:////proc/nowhere/ledger.sqlite'\n", "/proc/nowhere"),
        ("home: ~nobody-of-that-name/x\n", "settings.yaml: home: Could not determine home directory"),
        (BOMB, "settings.yaml:4: not valid YAML: its aliases expand to more than ten times the file"),
        ("projects: [" * 3000, "settings.yaml:1: not valid YAML: nested more than 40 levels deep"),
    ],
)
def test_settings_that_cannot_be_used_are_one_error(tmp_path: Path, settings: str, said: str) -> None:
    project = "projects: [{name: zoo, repository: ./zoo}]\n" if settings.startswith(("ledger", "home")) else ""
    assert said in llmops("status", home=tmp_path / "home", settings=project + settings)


@pytest.mark.parametrize("content", [b"not a database at all\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_ledger_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(content)
    said = llmops("status", home=home, settings=f"home: {home}\nprojects: [{{name: zoo, repository: ./zoo}}]\n")
    assert f"the ledger {home}/ledger.sqlite is damaged" in said and "restore" in said


def test_init_in_a_folder_with_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/llmops.yaml").write_bytes(b"name: z\xff\n")
    assert "llmops.yaml: it is not UTF-8 text (byte 7)" in llmops("init", str(tmp_path / "zoo"), home=tmp_path / "home")


@pytest.mark.parametrize("git", [False, True])
def test_check_names_links_that_a_run_would_refuse_and_no_others(folder: Path, tmp_path: Path, git: bool) -> None:
    """A folder was valid, and every run of its commit refused a link that leads out of the project."""
    links = {
        "rows.jsonl": "/etc/passwd", "deep/er": "../docs/../../elsewhere", "through": "deep/er/x", "circle": "circle",
        "inside": "prompts", "absent": "data/nothing.jsonl", "venv/bin/python": "/usr/bin/python3",
    }  # fmt: skip
    for path, to in links.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(to)
    (folder / ".gitignore").write_text("/venv\n")
    if git:
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    told = llmops("check", "--path", str(folder), home=tmp_path / "home").replace("\n", "")
    assert f"{folder}/rows.jsonl: a symbolic link to /etc/passwd, outside the project; replace it with" in told
    for path, to in {"deep/er": "../docs/../../elsewhere, outside", "through": "deep/er/x, out", "circle": "c"}.items():
        assert f"{folder}/{path}: a symbolic link to {to}" in told
    assert told.count("a symbolic link to") == 4, "what stays inside, or is ignored, is refused by no run"
