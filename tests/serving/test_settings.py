"""Serving's settings, from outside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("unsound", "arguments", "words"),
    [
        ({"TANDEM_SERVING_PORT": "many"}, [], "TANDEM_SERVING_PORT is 'many': Input should be a valid integer"),
        ({}, ["--workers", "0"], "TANDEM_SERVING_WORKERS is 0: Input should be greater than or equal to 1"),
    ],
)
def test_an_unsound_setting_ends_it_with_a_line_that_names_it(unsound, arguments, words):
    command = [sys.executable, "-m", "serving", *arguments]
    ended = subprocess.run(command, env=os.environ | unsound, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"serving: {words}")
