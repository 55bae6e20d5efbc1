# What `scripts/package` puts into the .deb: install rules, and CPack's settings. Texts that the binary writes itself (manual page, completions) are
# made by it when the target `package-texts` is built.
set(texts "${CMAKE_BINARY_DIR}/package")
add_custom_command(
  OUTPUT "${texts}/thaw.1.gz" "${texts}/thaw.bash" "${texts}/_thaw" "${texts}/thaw.fish"
  COMMAND "${CMAKE_COMMAND}" -E make_directory "${texts}"
  COMMAND sh -c "'$<TARGET_FILE:thaw>' man | gzip -9n >thaw.1.gz"
  COMMAND sh -c "'$<TARGET_FILE:thaw>' completion bash >thaw.bash"
  COMMAND sh -c "'$<TARGET_FILE:thaw>' completion zsh >_thaw"
  COMMAND sh -c "'$<TARGET_FILE:thaw>' completion fish >thaw.fish"
  WORKING_DIRECTORY "${texts}"
  DEPENDS thaw
  VERBATIM)
add_custom_target(package-texts DEPENDS "${texts}/thaw.1.gz")
# All that a package holds, and nothing of the tests.
add_custom_target(package-files DEPENDS package-texts)
add_dependencies(package-files thaw thaw-init thaw_weights)
if(TARGET thaw_lazy_map)
  add_dependencies(package-files thaw_lazy_map)
endif()

set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # `scripts/package` builds what it needs
install(TARGETS thaw DESTINATION bin)
install(TARGETS thaw-init DESTINATION lib/thaw)
install(TARGETS thaw_weights LIBRARY DESTINATION lib/thaw)
if(TARGET thaw_lazy_map)
  install(TARGETS thaw_lazy_map LIBRARY DESTINATION lib/thaw)
endif()
install(FILES src/node/weights/pipeline/thaw_weights.h DESTINATION share/thaw)
install(DIRECTORY python DESTINATION share/thaw PATTERN "__pycache__" EXCLUDE)
install(FILES packaging/thaw.service DESTINATION /lib/systemd/system)
install(FILES packaging/server.yaml DESTINATION /etc/thaw)
install(FILES "${texts}/thaw.1.gz" DESTINATION share/man/man1)
install(FILES "${texts}/thaw.bash" DESTINATION share/bash-completion/completions RENAME thaw)
install(FILES "${texts}/_thaw" DESTINATION share/zsh/vendor-completions)
install(FILES "${texts}/thaw.fish" DESTINATION share/fish/vendor_completions.d)
install(DIRECTORY docs/ DESTINATION share/doc/thaw)
install(DIRECTORY examples DESTINATION share/doc/thaw)
install(FILES README.md SECURITY.md packaging/debian/copyright DESTINATION share/doc/thaw)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME thaw)
set(CPACK_PACKAGE_CONTACT "thaw <root@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "serverless inference: models that hold no GPU while idle")
set(CPACK_PACKAGE_DESCRIPTION "One server for many models over the OpenAI API. A model is loaded when a request comes for it and gives its memory back
when the work is done; each engine runs in a sandbox of its own, without network.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/package")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${CMAKE_BINARY_DIR}")
set(CPACK_DEBIAN_PACKAGE_DEPENDS "runc, init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates, runsc")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "skopeo, umoci")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/packaging/debian/conffiles" "${CMAKE_SOURCE_DIR}/packaging/debian/postinst"
  "${CMAKE_SOURCE_DIR}/packaging/debian/prerm" "${CMAKE_SOURCE_DIR}/packaging/debian/postrm")
include(CPack)
