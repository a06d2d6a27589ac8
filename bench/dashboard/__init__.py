"""./dev bench dashboard: what a page that compares many long runs costs its reader, its server and the wire."""
