"""Small records as YAML text."""

from __future__ import annotations


def affinity(name: str, cidr: str = "10.0.0.0/26", node: str = "node-1", state: str = "confirmed") -> str:
    """A BlockAffinity of nine lines; the cidr is on the 7th and the state on the 8th."""
    return f"""\
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata:
  name: {name}
spec:
  node: {node}
  cidr: {cidr}
  state: {state}
  deleted: false
"""
