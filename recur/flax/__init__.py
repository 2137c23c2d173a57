"""The bridge to Flax, both ways; the only folder that imports flax."""
