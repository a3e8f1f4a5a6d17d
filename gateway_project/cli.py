"""The console script `ai-gateway` (also `script/server`), and the runner of management commands."""

import argparse
import os
import sys

from django.core.management import execute_from_command_line
from django.db import DatabaseError, connection

INVALID_CONFIGURATION = 2
"""Exit status if the configuration is wrong, or the database cannot be reached."""


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    for variable, value in options.items():
        if value is not None:
            os.environ[variable] = value
    run_command(["ai-gateway", "serve"])


def run_command(arguments: list[str]) -> None:
    """Run a management command. If the database cannot be reached, exit with a message instead of a trace."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    try:
        execute_from_command_line(arguments)
    except DatabaseError:
        if reason := reason_of_unreachable_database():
            print(f"configuration error: {reason}", file=sys.stderr)
            sys.exit(INVALID_CONFIGURATION)
        raise


def reason_of_unreachable_database() -> str:
    """Return why no connection to the database can be opened; empty if one can be opened."""
    connection.close()
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        settings = connection.settings_dict
        is_sqlite = connection.vendor == "sqlite"
        name = settings["NAME"] if is_sqlite else f"{settings['NAME']} at {settings['HOST'] or 'localhost'}"
        cause = " ".join(str(error).split())
        variable = "DATABASE_PATH" if is_sqlite else "DATABASE_URL"
        return f"{variable}: the database {name} cannot be opened: {cause}"
    return ""


def parse(arguments: list[str] | None) -> dict[str, str | None]:
    """Return the environment variables that the options set. None means that an option is absent."""
    parser = argparse.ArgumentParser(
        prog="ai-gateway",
        description="Runs the AI gateway. Each option sets environment variables.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(*("-h", "-help", "--help"), action="help", help="show this text")
    parser.add_argument(
        *("-config", "--config"),
        metavar="FILE",
        help="YAML routing (AI_GATEWAY_CONFIG, default config/proxy-config.yaml if it exists)",
    )
    parser.add_argument(
        *("-env-file", "--env-file"),
        metavar="FILE",
        help="variables to read (AI_GATEWAY_ENV_FILE, default .env if it exists)",
    )
    parser.add_argument(
        *("-listen", "--listen"),
        metavar="[HOST]:PORT",
        help="address to listen on (GATEWAY_HOST and PORT, default 127.0.0.1:8080); :PORT listens on 0.0.0.0",
    )
    parser.add_argument(
        *("-verbose", "--verbose"), action="store_true", help="log more (GATEWAY_LOG_LEVEL=debug)"
    )
    options = parser.parse_args(arguments)
    host, colon, port = (options.listen or "").rpartition(":")
    if options.listen and not (colon and port.isdecimal()):
        parser.error("--listen needs HOST:PORT or :PORT")
    return {
        "AI_GATEWAY_CONFIG": options.config,
        "AI_GATEWAY_ENV_FILE": options.env_file,
        "GATEWAY_HOST": (host.strip("[]") or "0.0.0.0") if options.listen else None,
        "PORT": port or None,
        "GATEWAY_LOG_LEVEL": "debug" if options.verbose else None,
    }


if __name__ == "__main__":
    main()
