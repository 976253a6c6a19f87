"""The same node twice, once as BIRD 1.6 with the configuration that `routed render` wrote and once as
`routed run`: what its peers are told and what its kernel holds is compared."""
