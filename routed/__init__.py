"""routed: Calico's BGP in one process."""

__version__ = "0.1.0"
