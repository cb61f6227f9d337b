"""The version of what a run keeps; apart from the schemas, which need Arrow."""

SCHEMA_VERSION = 1
