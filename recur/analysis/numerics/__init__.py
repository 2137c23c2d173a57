"""Numerical methods of the analyses: accurate frames, products and factorisations."""
