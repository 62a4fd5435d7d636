"""Galleries: a catalogue of records with their vectors, searchable, in one folder."""
