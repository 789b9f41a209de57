"""The version, which generated source names."""

VERSION = "0.1.0"
