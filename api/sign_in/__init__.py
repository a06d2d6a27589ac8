"""POST /sign-in: an OpenID Connect ID token in, a short-lived API key out."""
