"""The small world that ships: avatars, a tiny unified model of declared bias, and a judge of its pictures."""
