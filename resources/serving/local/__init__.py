"""Serving on this machine: llama.cpp engines and Envoy under supervisord."""
