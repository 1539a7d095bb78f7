"""What is probably wrong with a data set's photos and labels; imports training for features and report for its page."""
