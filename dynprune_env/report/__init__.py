"""Results into tables, figures and pages; nothing here runs anything."""
