"""Tests of the configuration of projects in YAML."""
