"""Number new blobs; older rows have no id until a background migration gives them one."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "CREATE SEQUENCE IF NOT EXISTS public.blobs_id_seq AS bigint",
        "ALTER TABLE public.blobs ADD COLUMN IF NOT EXISTS id bigint",
        "ALTER TABLE public.blobs ALTER COLUMN id SET DEFAULT nextval('public.blobs_id_seq')",
    ],
    down=[
        "ALTER TABLE public.blobs DROP COLUMN IF EXISTS id",
        "DROP SEQUENCE IF EXISTS public.blobs_id_seq",
    ],
)
