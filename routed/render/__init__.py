"""A NodeIntent as the configuration of other BGP daemons."""
