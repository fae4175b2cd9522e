"""Oracles: any model behind a chat endpoint."""
