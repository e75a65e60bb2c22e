"""The clinical application: muscles, products, doses, sites; pipeline, intake, jobs, store."""
