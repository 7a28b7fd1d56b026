"""Arrays: devices, rows by group, products, threads."""
