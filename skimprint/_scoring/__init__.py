"""From queries and proxies to scores."""
