"""The command itself: versions, help, and completion by a real shell."""

import json
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from nnunet_topo import cli

from ..evaluation.study import Study, pair


def test_the_version_names_what_results_depend_on(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"nnunet-topo {metadata.version('nnunet-topo')}"
    assert f"nnunetv2 {metadata.version('nnunetv2')}" in lines
    assert f"torch {metadata.version('torch')}" in lines


def test_the_help_says_what_to_cite_and_what_a_report_of_a_problem_needs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "nnunet-topo doctor" in told
    assert "nnunet-topo cite TRAINER" in told


def test_nothing_typed_shows_what_there_is(capsys):
    assert cli.main([]) == 2
    told = capsys.readouterr().err
    assert "evaluate" in told
    assert "nnunet-topo doctor" in told


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("eva", "evaluate"), ("compare --g", "--gt"), ("run --executor s", "slurm")],
)
def test_bash_completes_commands_options_and_choices(typed, completed, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    file = tmp_path / "completion.bash"
    with file.open("w") as written:
        command = [sys.executable, "-m", "nnunet_topo.cli", "completion", "bash"]
        subprocess.run(command, stdout=written, check=True)
    words = ["nnunet-topo", *typed.split()]
    script = (
        f"source {file}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        '_shtab_nnunet_topo; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert completed in done.stdout.split(), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_completion_of_every_command(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)


def test_an_evaluation_can_be_read_by_programs(tmp_path, capsys):
    study = Study(tmp_path)
    study.put("right", *pair(0))
    study.put("empty", *(0 * mask for mask in pair(0)))
    command = ["evaluate", str(study.gt), str(study.pred), "-np", "1", "-l", "1"]
    assert cli.main([*command, "--json"]) == 0
    told = capsys.readouterr()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads(told.out, parse_constant=refuse)
    assert len(summary["metric_per_case"]) == 2
    by_case = {case["reference_file"]: case["metrics"]["1"] for case in summary["metric_per_case"]}
    (empty,) = (metrics for file, metrics in by_case.items() if "empty" in file)
    assert empty["Dice"] is None
    assert "2 cases evaluated" in told.err
    assert cli.main(command) == 0
    assert "2 cases evaluated" in capsys.readouterr().out
