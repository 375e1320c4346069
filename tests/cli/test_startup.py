"""What the command loads before it knows what it is asked for."""

from __future__ import annotations

import pytest
from helpers.cpu_seconds import cpu_seconds_below
from helpers.episodes import run_script

HEAVY = ("torch", "numba", "matplotlib", "stable_baselines3", "scipy", "sklearn", "joblib", "ray")
SCRIPT = """
import sys
from dynprune_agents.cli import app
sys.argv = ["dynprune", *{arguments}]
sys.stdout = open("/dev/null", "w")
try:
    app.main()
except SystemExit:
    pass
print(sorted({heavy} & set(sys.modules)), file=sys.__stdout__)
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["bench", "--help"], ["train", "--help"], ["report", "none"]],
)
def test_help_takes_less_than_a_second_and_loads_nothing_heavy(arguments: list[str]) -> None:
    script = SCRIPT.format(arguments=arguments, heavy=set(HEAVY))
    with cpu_seconds_below(1):
        assert run_script(script) == "[]"
