"""What every Tandem service stands on: database, feeds, problems, tokens, process. Owned by the platform team."""
