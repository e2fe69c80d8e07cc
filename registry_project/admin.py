"""Users and groups, in the look of the site."""

from importlib import import_module

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from procrastinate.contrib.django.models import ProcrastinateJob
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm


class StaffAdmin(UserAdmin, ModelAdmin):
    """Django's pages of users, with unfold's forms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


class StaffGroupAdmin(GroupAdmin, ModelAdmin):
    """Django's pages of groups."""


# The journal tells of imports, and jobs that succeeded are gone.
import_module("procrastinate.contrib.django.admin")
admin.site.unregister(ProcrastinateJob)
admin.site.unregister(get_user_model())
admin.site.unregister(Group)
admin.site.register(get_user_model(), StaffAdmin)
admin.site.register(Group, StaffGroupAdmin)
