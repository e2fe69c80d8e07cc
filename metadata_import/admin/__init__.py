"""The pages of imports: what was imported, how far a running one is, and what was left out."""

from django.contrib import admin

from metadata_import.admin.runs import ImportRunAdmin
from metadata_import.models import ImportRun

admin.site.register(ImportRun, ImportRunAdmin)
