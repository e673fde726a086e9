"""The page of explained images: fates, origins, settings to vary, and the funnel of a dataset."""
