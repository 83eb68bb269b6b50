"""Endpoints: releases behind stable URLs."""
