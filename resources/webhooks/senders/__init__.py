"""One module per kind of server that sends webhooks."""
