"""What is kept: the database, its rows and the questions to them, the files."""
