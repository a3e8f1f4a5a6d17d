"""The console script `ai-gateway` (also `script/server`), which runs the management command `serve`."""

import argparse
import os

from django.core.management import execute_from_command_line


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    for variable, value in options.items():
        if value is not None:
            os.environ[variable] = value
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    execute_from_command_line(["ai-gateway", "serve"])


def parse(arguments: list[str] | None) -> dict[str, str | None]:
    """Return the environment variables that the options set. None means that an option is absent."""
    parser = argparse.ArgumentParser(
        prog="ai-gateway", description="Runs the AI gateway. Each option sets environment variables."
    )
    parser.add_argument("--config", metavar="FILE", help="YAML routing (AI_GATEWAY_CONFIG)")
    parser.add_argument(
        "--env-file", metavar="FILE", help="variables to read (AI_GATEWAY_ENV_FILE, default .env)"
    )
    parser.add_argument(
        "--listen", metavar="[HOST]:PORT", help="address to listen on (GATEWAY_HOST and PORT)"
    )
    parser.add_argument("--verbose", action="store_true", help="log more (GATEWAY_LOG_LEVEL=debug)")
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
