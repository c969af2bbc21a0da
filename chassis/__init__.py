"""What every Tandem service stands on: its database, feeds, problems, tokens and process. Owned by the platform team."""
