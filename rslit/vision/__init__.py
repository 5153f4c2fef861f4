"""Images and what is said about them: data files, models, answers, boxes."""
