"""The catalog as a static site: prerendered pages that open from a folder, without a server."""

from neuralake.site.build import SiteReport, build_site, write_site

__all__ = ["SiteReport", "build_site", "write_site"]
