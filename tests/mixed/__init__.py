"""Clusters in which some nodes run BIRD and others routed."""
