#!/usr/bin/env python3
"""Create an API key, and print it: api-key-generator.py {username|systemId} {scopes|all}.

This calls `script/manage create_api_key`, which has more options.
"""

import os
import sys
from pathlib import Path

manage = str(Path(__file__).resolve().with_name("manage"))
os.execv(manage, [manage, "create_api_key", *sys.argv[1:]])
