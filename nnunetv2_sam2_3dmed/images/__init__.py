"""Images in three dimensions: files and DICOM series read and written, and how they are turned to be shown."""
