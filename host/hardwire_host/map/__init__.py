"""The map of a device: one TOML file that names its data. docs/map.md has the format."""
