"""Who may do what: users, sessions, API tokens and the claim of a new box, in `web.db`."""
