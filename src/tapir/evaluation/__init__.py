"""How a student is measured: held-out items, answered and scored; summaries and paired intervals."""
