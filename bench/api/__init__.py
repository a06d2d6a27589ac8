"""./dev bench api: what the API and its store do in a second, beside MLflow's tracking server on the same machine."""
