"""Stages that several methods share: rooms that do not know each other, brought together."""
