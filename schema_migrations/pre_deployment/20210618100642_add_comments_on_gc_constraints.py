"""Say on two unique constraints, which look superfluous, why they exist."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        COMMENT ON CONSTRAINT unique_manifests_top_lvl_nmspc_id_and_repo_id_id_cfg_blob_dgst
        ON public.manifests
        IS 'Lets records of unused configuration blobs reference manifests, so that deletes cascade fast.'
        """,
        """
        COMMENT ON CONSTRAINT unique_layers_top_lvl_nmspc_id_and_rpstory_id_and_id_and_digest
        ON public.layers
        IS 'Lets records of unused layer blobs reference layers, so that deletes cascade fast.'
        """,
    ],
    down=[
        """
        COMMENT ON CONSTRAINT unique_layers_top_lvl_nmspc_id_and_rpstory_id_and_id_and_digest
        ON public.layers
        IS NULL
        """,
        """
        COMMENT ON CONSTRAINT unique_manifests_top_lvl_nmspc_id_and_repo_id_id_cfg_blob_dgst
        ON public.manifests
        IS NULL
        """,
    ],
)
