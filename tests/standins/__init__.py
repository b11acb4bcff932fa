"""Stand-ins for services that no test may depend on."""
