"""What is known of each class, and how it is learnt."""
