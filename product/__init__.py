"""The product: quotes, bookings, tracking, ratings, and what to sell when the model cannot answer."""
