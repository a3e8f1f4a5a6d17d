#!/usr/bin/env python
"""Run Django's management commands. `script/manage` calls this in the project's environment."""

import sys

from gateway_project.cli import run_command

if __name__ == "__main__":
    run_command(sys.argv)
