"""Tests of what `--config` may name, and of the errors for what it may not."""

import json
from pathlib import Path

import pytest

from cnn_jax.config import flag_errors, flags
from cnn_jax.config.config_file import ConfigParser
from cnn_jax.errors import UserError
from configs import digits
from tests.support.command_line import ROOT, error_line, error_message, run_main


def saved_config(folder: Path) -> Path:
    """Writes the part of a run's config.json that is its config."""
    path = folder / "config.json"
    config = digits.get_config()
    config.learning_rate = 0.125
    path.write_text(json.dumps({"config": config.to_dict(), "versions": {}}))
    return path


def test_config_of_a_run_is_loaded(tmp_path: Path) -> None:
    config = ConfigParser().parse(str(saved_config(tmp_path)))
    expected = digits.get_config()
    expected.learning_rate = 0.125
    assert config.to_dict() == expected.to_dict()
    assert config.is_locked


def test_config_of_a_run_can_be_overridden(tmp_path: Path) -> None:
    # Also with several values, from which a sweep of two models follows.
    done = run_main(
        f"--config={saved_config(tmp_path)}",
        *("--config.learning_rate=0.1,0.2", "--config.model.features=4", "--mode=describe"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "14 * 14 * 4 = 784 inputs" in done.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "it is not the config.json of a run"),
        ("[]", "it is not the config.json of a run"),
        ("{}", "it is not the config.json of a run"),
        ('{"config": {"seed": 1}}', "cannot read the saved config"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "result.json").write_text(content)
    assert words in error_message(f"--config={tmp_path}/result.json")


def test_config_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ConfigParser().parse("configs/digits.py")
    assert config.to_dict() == digits.get_config().to_dict()
    # A file of that name in the working directory comes first.
    (tmp_path / "configs").mkdir()
    saved_config(tmp_path).rename(tmp_path / "configs" / "digits.json")
    assert ConfigParser().parse("configs/digits.json").learning_rate == 0.125


def test_path_of_a_config_may_have_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "a:b.py"
    path.write_text("from configs.digits import get_config")
    assert ConfigParser().parse(str(path)).to_dict() == digits.get_config().to_dict()


def test_config_that_is_nowhere_is_named_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        ConfigParser().parse("configs/missing.py")
    places = f"{tmp_path}/configs/missing.py or {ROOT}/configs/missing.py"
    assert f"--config=configs/missing.py is invalid (there is no file {places})" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "def get_config(): return 1 / 0",
            "cannot load config {path}, line 1: ZeroDivisionError: division by zero. Fix that",
        ),
        (
            "\ndef get_config(): return int('x')",
            "cannot load config {path}, line 2: ValueError: invalid literal",
        ),
        ("def get_config(:", "cannot load config {path}, line 1: SyntaxError"),
        ("import missing_module", "cannot load config {path}, line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot load the config: it must not end the program"),
        ("def get_config(): return 3", "--config={path} is invalid (it returned int): it must be"),
        ("def get_config(): return", "--config={path} is invalid (it returned NoneType): it must"),
        ("get = 3", "--config={path} is invalid (it has no function get_config): it must be"),
        ("def get_config(): open('/nowhere')", "cannot load config {path}, line 1: FileNotFound"),
        ("from configs import mnist\ndef get_config(): return mnist.get_config().model", "unknown"),
    ],
)
def test_config_file_that_fails_is_reported(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text)
    assert words.format(path=path) in error_message(f"--config={path}")


def test_config_that_returns_nothing_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("def get_config(): return")
    assert "(it returned NoneType)" in error_line(f"--config={path}")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (("--config=a.py", "--config=b.py"), "--config=a.py and --config=b.py"),
        (("--config", "a.py", "-config=b.py"), "--config a.py and -config=b.py"),
        (("--config=a.py", "--config"), "--config=a.py and --config"),
    ],
)
def test_two_configs_are_refused(arguments: tuple[str, ...], given: str) -> None:
    with pytest.raises(UserError, match=f"^{given} are given: there must be one config"):
        flag_errors.check_config_arguments(["main.py", *arguments])


def test_flag_file_may_hold_the_config_and_its_overrides(tmp_path: Path) -> None:
    file = tmp_path / "flags"
    file.write_text("--config=configs/digits.py\n--config.model.features=4\n--mode=describe\n")
    done = run_main(f"--flagfile={file}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "14 * 14 * 4 = 784 inputs" in done.stdout
    file.write_text("--config=configs/digits.py\n--config.sed=4\n")
    assert "Did you mean seed?" in error_message(f"--flagfile={file}")


@pytest.mark.parametrize("name", ["missing", "."])
def test_flag_file_that_cannot_be_read_is_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert error_line(f"--flagfile={path}").startswith(f"error: cannot read --flagfile={path} (")


def test_flag_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    words = "cannot read the file of --flagfile: it must be a text file"
    assert words in error_message(f"--flagfile={tmp_path}/picture")


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("a.png,b.png", ["a.png", "b.png"]),
        ("there,is.png", ["there,is.png"]),  # The name of a file.
        ('"a,b*.png",c.png', ["a,b*.png", "c.png"]),
        ('a"b.png', ['a"b.png']),
        ("", []),
    ],
)
def test_images_are_split_at_commas_unless_it_is_a_file(
    argument: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there,is.png").touch()
    assert flags.split_images(argument) == names
