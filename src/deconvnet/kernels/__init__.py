"""Optional native speed, chosen at run time; every kernel has a twin in plain torch."""
